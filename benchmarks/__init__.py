"""What MotionGear costs beside what people use today: measured side by side, told in
docs/performance.md. Not tests: nothing here passes or fails by a clock.
"""
