"""What a run of `multienv train` leaves on disk, and how it is gone on with."""
