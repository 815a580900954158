"""The desk: a web application on one's own machine, in which clips are made or dropped in, attributed, heard
against their sources, compared and accounted for. It holds no mathematics: its worker calls what the command
line calls, and its pages show what that wrote.
"""
