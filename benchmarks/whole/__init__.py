"""The processes of `benchmarks/sd_unet.py`: a folder with a UNet, its float32 forward, a client, and a link between namespaces."""
