// The gradients of k and v.

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
    let row_base = (picture * shape.heads + head) * shape.tokens;
    let last = shape.tokens - 1u;
//: if BIAS
    let bias_start = bias_base(picture, head);
//: end
//: for r in ROWS
    let key{r} = base + min(first + {r}u, last);
//: for c in LINES
    var k_grad{r}_{c} = vec4<f32>();
    var v_grad{r}_{c} = vec4<f32>();
//: end
//: end
    for (var query = 0u; query < shape.tokens; query += 4u) {
//: for j in 4
        let query{j} = base + min(query + {j}u, last);
        let row{j} = rows[row_base + min(query + {j}u, last)];
//: end
//: for r in ROWS
        var score{r} = vec4<f32>();
        var grad{r} = vec4<f32>();
//: end
        for (var c = 0u; c < LINES; c += 1u) {
//: for j in 4
            let q{j} = qkv_line(query{j}, 0u, head, c);
            let g{j} = grad_line(query{j}, head, c);
//: end
//: for r in ROWS
            {
                let k = qkv_line(key{r}, 1u, head, c);
                let v = qkv_line(key{r}, 2u, head, c);
                score{r} += vec4<f32>(dot(q0, k), dot(q1, k), dot(q2, k), dot(q3, k));
                grad{r} += vec4<f32>(dot(g0, v), dot(g1, v), dot(g2, v), dot(g3, v));
            }
//: end
        }
        let inside = vec4<f32>(four_from(query) < vec4<u32>(shape.tokens));
        let largest = vec4<f32>(row0.largest, row1.largest, row2.largest, row3.largest);
        let share = vec4<f32>(row0.share, row1.share, row2.share, row3.share) * inside;
        let delta = vec4<f32>(row0.delta, row1.delta, row2.delta, row3.delta);
//: for r in ROWS
        score{r} *= shape.scale;
//: if BIAS
        score{r} += bias_of_queries(bias_start, query, min(first + {r}u, last));
//: end
        let weight{r} = exp(score{r} - largest) * share;
        let slope{r} = weight{r} * shape.scale * (grad{r} - delta);
//: end
//: for c in LINES
        {
//: for j in 4
            let q{j} = qkv_line(query{j}, 0u, head, {c}u);
            let g{j} = grad_line(query{j}, head, {c}u);
//: end
//: for r in ROWS
            k_grad{r}_{c} += slope{r}.x * q0 + slope{r}.y * q1 + slope{r}.z * q2 + slope{r}.w * q3;
            v_grad{r}_{c} += weight{r}.x * g0 + weight{r}.y * g1 + weight{r}.z * g2 + weight{r}.w * g3;
//: end
        }
//: end
    }
//: for r in ROWS
    if (first + {r}u < shape.tokens) {
//: for c in LINES
        store(key{r}, 1u, head, {c}u, k_grad{r}_{c});
        store(key{r}, 2u, head, {c}u, v_grad{r}_{c});
//: end
    }
//: end
}
