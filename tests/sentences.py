"""What an error says, held to be ours and to be a sentence."""

from recgym.errors import RecGymError


def said(problem):
    """The text of an error, or of what pytest caught."""
    error = problem if isinstance(problem, Exception) else problem.value
    text = str(error)
    assert isinstance(error, RecGymError)
    assert text.isprintable() and len(text) < 700 and text[-1] in ".?", text
    return text
