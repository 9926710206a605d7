// What every kernel begins with: where an invocation stands, when the dispatch is folded into two dimensions.

struct Place {
    @builtin(workgroup_id) group: vec3<u32>,
    @builtin(num_workgroups) groups: vec3<u32>,
    @builtin(local_invocation_index) local: u32,
}

fn workgroup_number(place: Place) -> u32 {
    return place.group.x + place.group.y * place.groups.x;
}

fn invocation_number(place: Place) -> u32 {
    return workgroup_number(place) * WORKGROUP + place.local;
}

