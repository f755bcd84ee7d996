"""What is made of a run's record: the page, JUnit XML, Markdown, a badge, the difference of two runs, the trend of many."""
