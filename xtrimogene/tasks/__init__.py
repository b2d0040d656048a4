"""What a model is used for: arrays in, arrays out. `xtrimogene.tl` is the same from AnnData."""
