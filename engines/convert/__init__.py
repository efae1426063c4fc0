"""Foreign weight files to ONNX, with numpy and onnx alone: no torch, no Caffe on the machine."""
