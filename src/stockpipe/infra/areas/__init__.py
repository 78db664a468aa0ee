"""Everything of a stack that operators touch, area by area, and the operations on it.

Every resource is named exactly; where that cannot be, the reason stands beside it.
"""
