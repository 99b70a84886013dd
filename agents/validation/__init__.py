"""What is wrong with an answer, how good it is, and what may be read out of it.

Everything here takes time linear in the answer's length, and bounded by limits that stand beside
what they bound: answers come from models, and models from strangers.
"""
