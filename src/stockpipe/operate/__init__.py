"""What people ask of a running pipeline: functions that return data."""
