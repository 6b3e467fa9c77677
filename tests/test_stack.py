"""The tests of the finished stack, on Docker."""

from finished_stack import *
