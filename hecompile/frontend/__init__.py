"""Front ends: a diffusers folder, a module, an ONNX file or a zoo name, all to one graph."""
