"""What vectors know: linear models on FLIP's tasks, beside simple features."""
