"""MotionGear: whole servers carried into a cloud, sealed on the way and proved on arrival."""
