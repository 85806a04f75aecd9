"""Make multitrack songs of known stems to train small separation networks with."""
