"""Many runs as one program: spaces, trials, lanes, tables; public in `jaxopt_ko.loop`."""
