"""Decisions. Floor 2: no Twisted, no clock and no randomness but what arrives as an argument."""
