"""
Do the tasks get on, and do they keep their promises
====================================================

Before tasks share a network one would like to know whether they agree on what it should learn.
:class:`~sk_mtl.inspection.GradientConflictDisplay` compares the directions in which the tasks
pull, :class:`~sk_mtl.inspection.TaskAffinityDisplay` measures what a step for one task does to
the losses of the others. And after training, :class:`~sk_mtl.inspection.TaskCalibrationDisplay`
shows whether predicted probabilities are the shares that they claim to be.
"""

# sphinx_gallery_thumbnail_number = 1

from sk_mtl import SharedBottom
from sk_mtl.datasets import make_census_like
from sk_mtl.inspection import (
    GradientConflictDisplay,
    TaskAffinityDisplay,
    TaskCalibrationDisplay,
)
from sk_mtl.tasks import BinaryTask

X_train, Y_train = make_census_like(3600, random_state=0)
X_test, Y_test = make_census_like(2400, random_state=1)
settings = {"n_members": 1, "max_epochs": 4, "random_state": 0}
model = SharedBottom(**settings).fit(X_train, Y_train)

# %%
# Directions
# ----------
# The cosine of two tasks' gradients in what they share. Blue: a step for one helps the other; red:
# they pull in opposite directions; white: they do not mind each other. Rows that the model was
# not trained on tell more.

GradientConflictDisplay.from_estimator(model, X_test, Y_test)

# %%
# Steps
# -----
# A step for the task of the row changes the loss of the task of the column by this share: above
# zero the loss falls. A task's own step helps it most, so the colors end at the largest number
# between two different tasks.

TaskAffinityDisplay.from_estimator(
    model,
    X_test,
    Y_test,
    lr=0.1,
    random_state=0,
)

# %%
# Promises
# --------
# All tasks with two classes in one figure, missing labels left out. Points below the diagonal
# promise more than there is. Class weights, for one, change what a probability means: the second
# model was told to weigh both classes of *high_income* alike, and predicts it far too often.

TaskCalibrationDisplay.from_estimator(model, X_test, Y_test)

# %%

kinds = {"high_income": BinaryTask(class_weight="balanced")}
weighted = SharedBottom(task_types=kinds, **settings)
weighted.fit(X_train, Y_train)
TaskCalibrationDisplay.from_estimator(weighted, X_test, Y_test)
