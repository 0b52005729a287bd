"""AudioCLIP (Guzhov et al., ICASSP 2022): image, sound and text in one space."""
