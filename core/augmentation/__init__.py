"""Augmentation: real images, and synthetic variations of whom they show, as one dataset."""
