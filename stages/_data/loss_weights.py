"""Which optional weights the losses of params.yaml need."""

LPIPS_BACKBONE = "vgg16-397923af.pth"
"""File in the folder `weights` of the training stages; data/weights.yaml says where it comes from."""
