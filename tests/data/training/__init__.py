"""Training of the bundled network `demo`: data, augmentation, architecture, loop and evaluation."""
