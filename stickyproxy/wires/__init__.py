"""Twisted protocols and factories: they move bytes and ask the floors below. Floor 4: wires never import wires."""
