"""One exchange over HTTP: connections, the body on its way out, downloads."""
