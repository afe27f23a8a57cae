// The layer of a made-up network that is most like three made-up subjects, in C++.
#include <fastrdm/fastrdm.hpp>
#include <iostream>
#include <random>
#include <vector>

int main() {
  constexpr int conditions = 24, subjects = 3, depth = 4;
  const std::int64_t pairs = fastrdm_n_pairs(conditions);
  std::mt19937 random(0);
  std::normal_distribution<float> noise;

  fastrdm::Context context;
  context.threads(2);
  std::cout << "fastrdm " << fastrdm_version() << ", " << context.isa() << '\n';

  // Layers of different width, each further from the brain.
  std::vector<float> brain(conditions * 200);
  for (float& x : brain) x = noise(random);
  std::vector<double> models, subject_rdms;
  for (int layer = 0; layer < depth; ++layer) {
    std::vector<float> activations = brain;
    for (float& x : activations) x += static_cast<float>(layer) * noise(random);
    const auto rdm = fastrdm::calc_rdm(activations.data(), conditions, 200, fastrdm::Method::correlation, &context);
    models.insert(models.end(), rdm.begin(), rdm.end());
  }
  for (int subject = 0; subject < subjects; ++subject) {
    std::vector<float> measured = brain;
    for (float& x : measured) x += noise(random);
    const auto rdm = fastrdm::calc_rdm(measured.data(), conditions, 200);
    subject_rdms.insert(subject_rdms.end(), rdm.begin(), rdm.end());
  }

  const auto scores = fastrdm::compare(models, subject_rdms, pairs, fastrdm::Similarity::spearman, &context);
  const auto ceiling = fastrdm::noise_ceiling(subject_rdms, conditions);
  for (int layer = 0; layer < depth; ++layer) {
    double mean = 0;
    for (int subject = 0; subject < subjects; ++subject) mean += scores[static_cast<std::size_t>(layer * subjects + subject)] / subjects;
    std::cout << "layer " << layer << ": " << mean << '\n';
  }
  std::cout << "noise ceiling of subject 0: " << ceiling.lower[0] << " to " << ceiling.upper[0] << '\n';

  // Two sessions of measurements: their noise adds nothing to crossnobis distances.
  std::vector<float> sessions = brain;
  sessions.insert(sessions.end(), brain.begin(), brain.end());
  for (float& x : sessions) x += noise(random);
  const auto crossnobis = fastrdm::crossnobis_rdm(sessions.data(), 2, conditions, 200);
  const auto plain = fastrdm::calc_rdm(sessions.data(), conditions, 200, fastrdm::Method::sqeuclidean);
  std::cout << "conditions 0 and 1: crossnobis " << crossnobis[0] << ", squared distance " << plain[0] << '\n';

  try {
    fastrdm::calc_rdm(brain.data(), 1, 200);
  } catch (const std::invalid_argument& error) {
    std::cout << "refused: " << error.what() << '\n';
  }
}
