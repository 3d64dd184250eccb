"""The mathematics that objectives share."""
