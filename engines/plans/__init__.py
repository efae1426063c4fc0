"""From ONNX to TensorRT's plans: shapes, the cache, the builder, and what tells about a plan."""
