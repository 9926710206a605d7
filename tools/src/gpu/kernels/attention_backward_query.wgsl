// The gradient of q, and what the kernel of k and v needs to know of each query's row.

@compute @workgroup_size(WORKGROUP)
fn main(place: Place) {
    let unit = invocation_number(place);
    if (unit >= shape.units) {
        return;
    }
    let blocks = (shape.tokens + ROWS - 1u) / ROWS;
    let first = (unit % blocks) * ROWS;
    let head = (unit / blocks) % shape.heads;
    let picture = unit / (blocks * shape.heads);
    let base = picture * shape.tokens;
    let last = shape.tokens - 1u;
//: if BIAS
    let bias_start = bias_base(picture, head);
//: end
//: for r in ROWS
    let query{r} = base + min(first + {r}u, last);
    var largest{r} = NOWHERE;
    var sum{r} = 0.0;
    var delta{r} = 0.0;
//: end
    for (var key = 0u; key < shape.tokens; key += 4u) {
//: for j in 4
        let key{j} = base + min(key + {j}u, last);
//: end
//: for r in ROWS
        var score{r} = vec4<f32>();
        var grad{r} = vec4<f32>();
//: end
        for (var c = 0u; c < LINES; c += 1u) {
//: for j in 4
            let k{j} = qkv_line(key{j}, 1u, head, c);
            let v{j} = qkv_line(key{j}, 2u, head, c);
//: end
//: for r in ROWS
            {
                let q = qkv_line(query{r}, 0u, head, c);
                let g = grad_line(query{r}, head, c);
                score{r} += vec4<f32>(dot(q, k0), dot(q, k1), dot(q, k2), dot(q, k3));
                grad{r} += vec4<f32>(dot(g, v0), dot(g, v1), dot(g, v2), dot(g, v3));
            }
//: end
        }
        let inside = four_from(key) < vec4<u32>(shape.tokens);
//: for r in ROWS
        {
            score{r} *= shape.scale;
//: if BIAS
            score{r} += bias_of_keys(bias_start, min(first + {r}u, last), key);
//: end
            let scores = select(vec4<f32>(NOWHERE), score{r}, inside);
            let previous = largest{r};
            largest{r} = max(max(largest{r}, max(scores.x, scores.y)), max(scores.z, scores.w));
            let shrink = exp(previous - largest{r});
            let weight = exp(scores - largest{r});
            sum{r} = sum{r} * shrink + dot(weight, vec4<f32>(1.0));
            delta{r} = delta{r} * shrink + dot(weight, grad{r});
        }
//: end
    }
//: for r in ROWS
    let share{r} = 1.0 / sum{r};
    delta{r} *= share{r};
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
        var grad{r} = vec4<f32>();
//: end
        for (var c = 0u; c < LINES; c += 1u) {
//: for j in 4
            let k{j} = qkv_line(key{j}, 1u, head, c);
            let v{j} = qkv_line(key{j}, 2u, head, c);
//: end
//: for r in ROWS
            {
                let q = qkv_line(query{r}, 0u, head, c);
                let g = grad_line(query{r}, head, c);
                score{r} += vec4<f32>(dot(q, k0), dot(q, k1), dot(q, k2), dot(q, k3));
                grad{r} += vec4<f32>(dot(g, v0), dot(g, v1), dot(g, v2), dot(g, v3));
            }
//: end
        }
        let inside = four_from(key) < vec4<u32>(shape.tokens);
//: for r in ROWS
        score{r} *= shape.scale;
//: if BIAS
        score{r} += bias_of_keys(bias_start, min(first + {r}u, last), key);
//: end
        let scores{r} = select(vec4<f32>(NOWHERE), score{r}, inside);
        let slope{r} = exp(scores{r} - largest{r}) * (share{r} * shape.scale) * (grad{r} - delta{r});
//: end
//: for c in LINES
        {
//: for j in 4
            let k{j} = qkv_line(key{j}, 1u, head, {c}u);
//: end
//: for r in ROWS
            out{r}_{c} += slope{r}.x * k0 + slope{r}.y * k1 + slope{r}.z * k2 + slope{r}.w * k3;
//: end
        }
//: end
    }
//: for r in ROWS
    if (first + {r}u < shape.tokens) {
        rows[(picture * shape.heads + head) * shape.tokens + first + {r}u] = Row(largest{r}, share{r}, delta{r});
//: for c in LINES
        store(query{r}, 0u, head, {c}u, out{r}_{c});
//: end
    }
//: end
}
