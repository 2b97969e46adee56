# A NATS server and three replicas, as virtual machines: `nix build .#checks.x86_64-linux.replicas`.
{ lib, ... }:

let
  names = map (number: "replica${toString number}") [
    1
    2
    3
  ];
in
{
  name = "person-service-replicas";

  nodes = {
    nats =
      { pkgs, ... }:
      {
        services.nats = {
          enable = true;
          jetstream = true;
        };
        networking.firewall.allowedTCPPorts = [ 4222 ];
        environment.systemPackages = [ pkgs.natscli ];
      };
  }
  // lib.genAttrs names (_: {
    imports = [ ./module.nix ];
    services.cim-domain-person = {
      enable = true;
      natsUrl = "nats://nats:4222";
    };
    systemd.services.cim-domain-person.serviceConfig.MemoryMax = "512M";
  });

  testScript = ''
    import json
    import uuid

    replicas = [replica1, replica2, replica3]
    unit = "cim-domain-person.service"

    def create():
        person = str(uuid.uuid4())
        command = {"CreatePerson": {
            "person_id": person,
            "source": "test",
            "name": {"components": {"given_names": ["Ada"], "family_names": ["Lovelace"], "prefixes": [], "suffixes": []}},
        }}
        reply = nats.succeed(f"nats request --raw person.commands.{person} '{json.dumps(command)}'")
        assert json.loads(reply)["status"] == "accepted", reply
        return person

    # The replicas come first, and wait for the server.
    for replica in replicas:
        replica.start()
    nats.start()
    nats.wait_for_unit("nats.service")
    nats.wait_for_open_port(4222)
    for replica in replicas:
        replica.wait_for_unit(unit)

    with subtest("every replica is found, and commands are answered"):
        created = [create() for _ in range(10)]

    with subtest("limits of the unit take effect"):
        assert replica1.succeed(f"systemctl show -P MemoryMax {unit}").strip() == str(512 * 1024 * 1024)

    with subtest("without two of them the third goes on, with what the others stored"):
        replica1.succeed(f"systemctl stop {unit}")
        replica2.succeed(f"systemctl kill --signal=KILL {unit} && systemctl stop {unit}")
        query = json.dumps({"person_id": created[0]})
        reply = nats.succeed(f"nats request --raw person.queries.get '{query}'")
        assert json.loads(reply)["version"] == 1, reply
        create()

    with subtest("one that is killed comes back"):
        replica3.succeed(f"systemctl kill --signal=KILL {unit}")
        replica3.wait_until_succeeds(f"systemctl show -P NRestarts {unit} | grep -qx 1")
        replica3.wait_for_unit(unit)
        create()
  '';
}
