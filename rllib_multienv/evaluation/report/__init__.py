"""The report of an experiment: a page, figures and tables, made from its raw metrics alone."""

from rllib_multienv.evaluation.report.page import METRICS_FOLDER, page_path, write_report

__all__ = ["METRICS_FOLDER", "page_path", "write_report"]
