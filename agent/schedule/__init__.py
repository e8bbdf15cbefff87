"""What is done by itself: ``due`` says what and when (pure), ``tasks`` does it, ``runner`` keeps at it."""
