"""What a person, a script or TensorBoard gets to see of a run, made of its events alone.

`RunView` folds events into the state of a run; displays and writers are `Observer`s. Import what
is needed from the modules: rich and tensorboard are loaded only by those that use them.
"""
