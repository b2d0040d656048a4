"""Every error the package raises on purpose.

XTrimoGeneError
 +-- ConfigError             a setting that cannot work
 +-- FileFormatError         a file that is missing, truncated or not what its name says
 |    +-- UnsafeFileError    a file that reaches outside itself, or declares what it does not hold
 +-- CountsError             values that are not counts and cannot be turned into them
 +-- DrugError               a drug that is not known, or whose SMILES is no molecule
 +-- SequenceError           a protein sequence with something that is no amino acid
 +-- GeneMatchError          too few genes in common with the model
 +-- CheckpointError         a model folder or file that is incomplete, altered or of another kind
 +-- FieldError              an AnnData key that is missing or of the wrong kind
 +-- LimitError              more than is allowed in one request, or in one file
 +-- ServiceError            a service that cannot be reached, or has refused
 +-- MissingExtraError       an optional dependency that is not installed
"""


class XTrimoGeneError(Exception):
    """Base of all errors; its message says what was wanted, what came, and what to do."""


class ConfigError(XTrimoGeneError, ValueError):
    pass


class FileFormatError(XTrimoGeneError, ValueError):
    pass


class UnsafeFileError(FileFormatError):
    pass


class CountsError(XTrimoGeneError, ValueError):
    pass


class DrugError(XTrimoGeneError, ValueError):
    pass


class SequenceError(XTrimoGeneError, ValueError):
    pass


class GeneMatchError(XTrimoGeneError, ValueError):
    pass


class CheckpointError(XTrimoGeneError, ValueError):
    pass


class FieldError(XTrimoGeneError, KeyError):
    def __str__(self) -> str:
        return str(self.args[0])


class LimitError(XTrimoGeneError, ValueError):
    pass


class ServiceError(XTrimoGeneError, RuntimeError):
    pass


class MissingExtraError(XTrimoGeneError, ImportError):
    pass
