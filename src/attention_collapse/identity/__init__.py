"""When two results are the same: the code behind them, their environment, and what rounding may change."""
