from agent.mesh.lean import leave_mdns_out

leave_mdns_out()  # before any module of this package imports aioice
