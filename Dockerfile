# The kiosk on a Jetson in a container with JetPack's TensorRT, OpenCV and jetson-utils in it. Not run yet.
#   docker build --build-arg L4T=r36.3.0 -t kiosk .        r32.7.1 on JetPack 4.6.1+, r35.4.1 on 5.1, r36.3.0 on 6
#   docker run --rm -it --runtime nvidia --network host --volume kiosk:/kiosk/gallery --volume plans:/kiosk/engines/models/built \
#       --device /dev/video0 --volume /tmp/argus_socket:/tmp/argus_socket kiosk [INPUT] [OUTPUT]
# A window needs the desktop's display too: -e DISPLAY --volume /tmp/.X11-unix:/tmp/.X11-unix (and 'xhost +local:' once).
ARG L4T=r36.3.0
FROM dustynv/jetson-inference:${L4T}
WORKDIR /kiosk
ENV PATH=/usr/local/cuda/bin:$PATH OPENBLAS_CORETYPE=ARMV8 PYTHONUNBUFFERED=1
COPY requirements-jetson.txt constraints.txt ./
RUN if python3 -c 'import sys; sys.exit(sys.version_info >= (3, 7))'; then python3 -m pip install 'pip==21.3.1'; fi && \
    python3 -m pip install --no-cache-dir --prefer-binary -r requirements-jetson.txt -c constraints.txt
COPY . .
# Plans belong to the board, so they are built at the first start and kept in a volume.
ENTRYPOINT ["python3", "run_kiosk.py"]
CMD ["/dev/video0", "headless"]
