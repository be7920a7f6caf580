"""What a study does with models and pairs: observe attention, score and swap, train, judge. It knows no stage."""
