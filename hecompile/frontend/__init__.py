"""Front ends: they turn a diffusers folder, a module, an ONNX file or a model of the zoo into one canonical graph."""
