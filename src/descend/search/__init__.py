"""The search behind ``--transfer auto``: the best answer that a budget of time allows, replaced only by a better one.

clock     the budget, and who notices that it is spent
steps     what a search can do, as text: replayed from a recipe, the steps give the same bytes
study     the data, the network and the engine that all steps share
features  the step that fits a head to features of a size and its views
finetune  the step that trains late stages, from a head that was fitted
rungs     which step is worth its seconds next
mixture   how the answers of several steps are weighed
run       the loop over these, and what is left when it ends
"""
