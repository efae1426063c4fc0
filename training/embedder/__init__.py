"""The embedder that ships: a small student that learns, without labels, to agree with larger teachers.

`faces` holds the training crops, `augment` makes views of them, `teachers` say what each view's
embedding should be, `students` are the networks, `distill` the training, `evaluate` the judgement,
`export` the ONNX file of the kiosk. `python -m training.embedder --help` has the commands.
"""
