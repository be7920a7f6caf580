"""Work on a whole repository of studies: its pipeline, whether it is current, its verification, its differences."""
