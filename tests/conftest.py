pytest_plugins = ["zmock"]
