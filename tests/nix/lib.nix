# As much of nixpkgs' lib as the modules use, for evaluating them where there is no nixpkgs.
#
# Options and types are data, so that a test can look at them; conditions and priorities are carried out.
rec {
  mkOption = option: option // { _option = true; };
  mkEnableOption =
    _:
    mkOption {
      type = types.bool;
      default = false;
    };
  literalExpression = text: text;

  types = {
    bool = "bool";
    str = "string";
    int = "int";
    package = "package";
    ints.positive = "positive int";
    ints.between = least: most: "int from ${toString least} to ${toString most}";
    enum = values: "enum ${builtins.concatStringsSep "/" (map toString values)}";
    strMatching = pattern: "string matching ${pattern}";
    nullOr = type: "${type} or null";
    listOf = type: "list of ${type}";
    attrsOf = type: if builtins.isString type then "attributes of ${type}" else type;
    oneOf = all: builtins.concatStringsSep " or " all;
    submodule = module: { _submodule = module; };
  };

  mkIf = condition: content: {
    _if = condition;
    inherit content;
  };
  mkMerge = all: { _merge = all; };
  # Nobody here sets one thing twice, so that there is nothing for a priority to decide.
  mkDefault = value: value;
  mkOverride = _: value: value;

  optional = condition: value: if condition then [ value ] else [ ];
  optionalAttrs = condition: value: if condition then value else { };
  optionalString = condition: text: if condition then text else "";
  boolToString = value: if value then "true" else "false";
  escapeShellArg = text: "'${text}'";
  getExe = package: "${package}/bin/person-service";

  importTOML = file: builtins.fromTOML (builtins.readFile file);
  # The paths themselves, as text: none of them is copied.
  fileset = {
    unions = map toString;
    toSource = source: source.fileset;
  };
  licenses.mit = "mit";
  platforms = {
    linux = [ "linux" ];
    darwin = [ "darwin" ];
  };

  # The modules of a list with all that they import, each once where it is a path.
  collect =
    arguments: modules:
    map (entry: entry.module) (
      builtins.genericClosure {
        startSet = map (load arguments) modules;
        operator = entry: map (load arguments) (entry.module.imports or [ ]);
      }
    );
  load =
    arguments: source:
    let
      value = if builtins.isPath source then import source else source;
    in
    {
      key =
        if builtins.isPath source then
          toString source
        else
          builtins.hashString "md5" (builtins.toJSON source);
      module = if builtins.isFunction value then value arguments else value;
    };

  # What was set, piece by piece, each with its condition, which is looked at only when the value is asked for: conditions
  # depend on other options.
  pieces =
    value:
    if !builtins.isAttrs value then
      [ (piece true value) ]
    else if value ? _merge then
      builtins.concatMap pieces value._merge
    else if value ? _if then
      map (inner: piece (value._if && inner.holds) inner.value) (pieces value.content)
    else
      [ (piece true value) ];
  piece = holds: value: { inherit holds value; };
  below =
    name: set:
    builtins.concatMap (
      outer:
      if outer.value ? ${name} then
        map (inner: piece (outer.holds && inner.holds) inner.value) (pieces outer.value.${name})
      else
        [ ]
    ) set;
  namesOf = sets: builtins.attrNames (builtins.foldl' (all: one: all // one) { } sets);

  # The values of the options, and beside them what was set of the rest of the system.
  values =
    options: set:
    builtins.listToAttrs (
      map (name: {
        inherit name;
        value =
          let
            here = below name set;
            found = free here;
          in
          if !(options ? ${name}) then
            (if found == [ ] then { } else builtins.head found)
          else if options.${name} ? _option then
            (if found == [ ] then options.${name}.default or { } else builtins.head found)
          else
            values options.${name} here;
      }) (namesOf ([ options ] ++ map (one: one.value) set))
    );

  # Sets into sets, lists behind lists, else the last; a list of one value, or of none where nothing holds.
  free =
    set:
    let
      all = map (one: one.value) (builtins.filter (one: one.holds) set);
      last = builtins.elemAt all (builtins.length all - 1);
      whole = map (piece true) all;
      inside = map (name: {
        inherit name;
        value = free (below name whole);
      }) (namesOf all);
    in
    if all == [ ] then
      [ ]
    else if builtins.isList last then
      [ (builtins.concatLists all) ]
    else if !builtins.isAttrs last || last ? outPath then
      [ last ]
    else
      [
        (builtins.listToAttrs (
          map (one: {
            inherit (one) name;
            value = builtins.head one.value;
          }) (builtins.filter (one: one.value != [ ]) inside)
        ))
      ];

  # The modules declare each option once.
  union = builtins.foldl' (
    one: other:
    one
    // builtins.mapAttrs (
      name: value:
      if one ? ${name} && !(value ? _option) then
        union [
          one.${name}
          value
        ]
      else
        value
    ) other
  ) { };

  # A module without `config` is settings.
  evaluate =
    {
      modules,
      pkgs,
    }:
    let
      loaded = collect { inherit config pkgs lib; } modules;
      options = union (map (module: module.options or { }) loaded);
      settings =
        module:
        if module ? config then
          module.config
        else
          removeAttrs module [
            "_class"
            "imports"
            "options"
          ];
      config = values options (builtins.concatMap (module: pieces (settings module)) loaded);
      lib = import ./lib.nix;
    in
    {
      inherit config options;
      classes = builtins.concatMap (module: if module ? _class then [ module._class ] else [ ]) loaded;
    };
}
