"""A synthetic abdomen data set: for demos, tests and benchmarks, and never a patient."""

from ctsynth.phantom.case import FIRST_TEST_ID
from ctsynth.phantom.dataset import PhantomData, make_phantom
from ctsynth.phantom.subject import PhantomSubject, make_subject

__all__ = ["FIRST_TEST_ID", "PhantomData", "PhantomSubject", "make_phantom", "make_subject"]
