"""The backend of `he-diffusion`: a sampler's step x' = f x + g e, on encrypted entries and on revealed ones."""
