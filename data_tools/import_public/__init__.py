"""Public data sets as they are downloaded -> a raw cohort of ours."""
