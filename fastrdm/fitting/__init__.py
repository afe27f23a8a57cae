"""RDM models with parameters: fitted on some subjects, conditions or studies, judged on others."""

__all__: list[str] = []
