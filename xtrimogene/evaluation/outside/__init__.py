"""Other people's methods, each in a file that imports its library; a star: it has seen the counts of the test cells."""
