"""Handing a file over to a place outside the shop's laptops: email, a network share, a cloud. One interface."""
