"""Gymnasium spaces as rows of numbers, images and text, and back."""
