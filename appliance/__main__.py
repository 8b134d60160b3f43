"""``python -m appliance``: the command, also what a job's process is started as."""

from appliance.cli import main

if __name__ == "__main__":
    main()
