// preprocess WIDTH HEIGHT SIDE CROP < raw.rgb > input.f32
// Raw 8-bit RGB to the model's float32 [3, CROP, CROP]: resize = "short-side", interpolation = "bilinear", SIDE being
// CROP / crop_share rounded down. Mean and deviation are from the manifest. Compile: g++ -O2 -ffp-contract=off
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>
using Pixels = std::vector<uint8_t>;

// One of the filter's two passes: along rows, then along columns; weights are integers of 22 bits, sums are rounded.
Pixels scaled(const Pixels &in, int width, int height, int to, bool along_rows) {
    int from = along_rows ? width : height, out_width = along_rows ? to : width, lines = along_rows ? height : width;
    Pixels out(size_t(3) * to * lines);
    double scale = double(from) / to, reach = std::max(scale, 1.0);
    for (int i = 0; i < to; i++) {
        double centre = (i + 0.5) * scale, sum = 0;
        int first = std::max(int(centre - reach + 0.5), 0), last = std::min(int(centre + reach + 0.5), from);
        std::vector<double> weights;
        for (int j = first; j < last; j++) weights.push_back(1 - std::min(std::abs((j - centre + 0.5) / reach), 1.0));
        for (double weight : weights) sum += weight;
        for (int line = 0; line < lines; line++) for (int c = 0; c < 3; c++) {
            int total = 1 << 21;
            for (int j = first; j < last; j++)
                total += in[3 * (along_rows ? line * width + j : j * width + line) + c] * int(0.5 + weights[j - first] / sum * (1 << 22));
            out[3 * (along_rows ? line * out_width + i : i * out_width + line) + c] = std::clamp(total >> 22, 0, 255);
        }
    }
    return out;
}

int main(int, char **given) {
    int width = atoi(given[1]), height = atoi(given[2]), side = atoi(given[3]), crop = atoi(given[4]);
    const double mean[] = {0.485, 0.456, 0.406}, std[] = {0.229, 0.224, 0.225};
    Pixels pixels(size_t(3) * width * height);
    if (fread(pixels.data(), 1, pixels.size(), stdin) != pixels.size()) return 1;
    int short_side = std::min(width, height), long_side = int(double(side) * std::max(width, height) / short_side);
    int wide = width <= height ? side : long_side, tall = width <= height ? long_side : side;
    pixels = scaled(scaled(pixels, width, height, wide, true), wide, height, tall, false);
    int left = int(std::nearbyint((wide - crop) / 2.0)), top = int(std::nearbyint((tall - crop) / 2.0));
    for (int c = 0; c < 3; c++) for (int y = 0; y < crop; y++) for (int x = 0; x < crop; x++) {
        float level = pixels[3 * ((top + y) * wide + left + x) + c];
        float value = level * float(1 / (255 * std[c])) + float(-mean[c] / std[c]);
        fwrite(&value, sizeof value, 1, stdout);
    }
}
