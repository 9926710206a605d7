//: if VEC
@group(0) @binding(2) var<storage, read_write> result: array<vec4<f32>>;
//: else
@group(0) @binding(2) var<storage, read_write> result: array<f32>;
//: end

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let unit = invocation_number(place);
    if (unit >= shape.units) {
        return;
    }
    let blocks = (shape.tokens + ROWS - 1u) / ROWS;
    let first = (unit % blocks) * ROWS;
    let head = (unit / blocks) % shape.heads;
    let base = unit / (blocks * shape.heads) * shape.tokens;
    let last = shape.tokens - 1u;
//: if BIAS
    let bias_start = bias_base(unit / (blocks * shape.heads), head);
//: end
//: for r in ROWS
    let query{r} = base + min(first + {r}u, last);
    var largest{r} = NOWHERE;
    var sum{r} = 0.0;
//: for c in LINES
    var out{r}_{c} = vec4<f32>();
//: end
//: end
    for (var key = 0u; key < shape.tokens; key += 4u) {
//: for j in 4
        let key{j} = base + min(key + {j}u, last);
//: end
//: for r in ROWS
        var score{r} = vec4<f32>();
//: end
        for (var c = 0u; c < LINES; c += 1u) {
//: for j in 4
            let k{j} = qkv_line(key{j}, 1u, head, c);
//: end
//: for r in ROWS
            {
                let q = qkv_line(query{r}, 0u, head, c);
                score{r} += vec4<f32>(dot(q, k0), dot(q, k1), dot(q, k2), dot(q, k3));
            }
//: end
        }
        let inside = four_from(key) < vec4<u32>(shape.tokens);
//: for r in ROWS
        score{r} *= shape.scale;
//: if BIAS
        score{r} += bias_of_keys(bias_start, min(first + {r}u, last), key);
//: end
        score{r} = select(vec4<f32>(NOWHERE), score{r}, inside);
        let previous{r} = largest{r};
        largest{r} = max(max(largest{r}, max(score{r}.x, score{r}.y)), max(score{r}.z, score{r}.w));
        let shrink{r} = exp(previous{r} - largest{r});
        let weight{r} = exp(score{r} - largest{r});
        sum{r} = sum{r} * shrink{r} + dot(weight{r}, vec4<f32>(1.0));
//: end
//: for c in LINES
        {
//: for j in 4
            let v{j} = qkv_line(key{j}, 2u, head, {c}u);
//: end
//: for r in ROWS
            out{r}_{c} = out{r}_{c} * shrink{r}
                + (weight{r}.x * v0 + weight{r}.y * v1 + weight{r}.z * v2 + weight{r}.w * v3);
//: end
        }
//: end
    }
//: for r in ROWS
    if (first + {r}u < shape.tokens) {
        let start = (query{r} * shape.heads + head) * shape.head_dim;
        let share = 1.0 / sum{r};
//: for c in LINES
//: if VEC
        result[start / 4u + {c}u] = out{r}_{c} * share;
//: else
        for (var i = 0u; i < min(4u, shape.head_dim - 4u * {c}u); i += 1u) {
            result[start + 4u * {c}u + i] = out{r}_{c}[i] * share;
        }
//: end
//: end
    }
//: end
}
