"""CLAIM 2024, its items in our words, each with what the files answer.

Tejani et al., Radiology: Artificial Intelligence 2024;6(4):e240300.
"""

from tf_hypoperfusion.evaluation.dossier import data_answers as data
from tf_hypoperfusion.evaluation.dossier import network_answers as network
from tf_hypoperfusion.evaluation.dossier import result_answers as result
from tf_hypoperfusion.evaluation.dossier.checklist import Checklist, Item

CLAIM = Checklist(
    name="CLAIM 2024",
    source="Tejani et al., Radiology: Artificial Intelligence 2024;6(4):e240300, "
    "https://doi.org/10.1148/ryai.240300",
    file="claim_2024",
    sections=(
        ("Title and abstract", (
            Item("1", "Title: kind of AI", "Which kind of AI does the title name?",
                 network.technology),
            Item("2", "Abstract: structured summary", "Write a structured summary.", result.draft),
        )),
        ("Introduction", (
            Item("3", "Background and intended use",
                 "What is known, and who is to use the model for what?"),
            Item("4", "Aims and hypotheses", "What are the study's aims and hypotheses?"),
        )),
        ("Design", (
            Item("5", "Prospective or retrospective", "Were the patients included prospectively?"),
            Item("6", "Goal of the study",
                 "Is the goal a new model, a feasibility study or a trial?", network.aims),
        )),
        ("Data", (
            Item("7", "Data sources", "Where do the data come from?", data.sources),
            Item("8", "Inclusion and exclusion", "Who was included and who excluded?",
                 data.eligibility),
            Item("9", "Preprocessing", "How were the images prepared?", data.preprocessing),
            Item("10", "Parts of the data that were used", "Which parts of the images were used?",
                 data.windows),
            Item("11", "De-identification", "How were the data de-identified?"),
            Item("12", "Missing data", "What was missing, and what was done about it?",
                 data.missing_data),
            Item("13", "Image acquisition", "With which scanners and sequences?", data.acquisition),
        )),
        ("Reference standard", (
            Item("14", "How the reference was obtained", "How is the reference defined?",
                 data.reference),
            Item("15", "Why this reference", "Why this reference, and what are its weaknesses?"),
            Item("16", "Who annotated", "Who made the annotations?", data.annotators),
            Item("17", "Annotation of the test set", "How was the test set annotated?",
                 data.annotation_of_tests),
            Item("18", "Variability of raters", "How much did raters vary, and who decided?",
                 data.variability),
        )),
        ("Partitions and test data", (
            Item("19", "Assignment to partitions", "How were data assigned to partitions?",
                 data.partitions),
            Item("20", "Level at which partitions are disjoint",
                 "Are partitions disjoint by patient?", data.disjointness),
            Item("21", "Size of the test set", "How was the size of the test set determined?",
                 data.size),
        )),
        ("Model", (
            Item("22", "Architecture", "What are inputs, layers and outputs?",
                 network.architecture),
            Item("23", "Software", "Which libraries, in which versions?", network.software),
            Item("24", "Initial weights", "How were the weights initialised?",
                 network.initial_weights),
        )),
        ("Training", (
            Item("25", "Training and hyperparameters", "How was the model trained?",
                 network.training),
            Item("26", "Choice of the final model", "How was the final model chosen?",
                 network.selection),
            Item("27", "Ensembles", "Were models combined, and how?", network.ensembling),
        )),
        ("Evaluation", (
            Item("28", "Metrics", "Which metrics were used?", result.metrics),
            Item("29", "Significance and uncertainty", "Which intervals and tests were used?",
                 result.uncertainty),
            Item("30", "Robustness or sensitivity", "How robust are the results?",
                 result.sensitivity),
            Item("31", "Explainability", "Were methods of explanation used and validated?"),
            Item("32", "Internal testing", "How was the model tested on internal data?",
                 result.internal),
            Item("33", "External testing", "Was the model tested on external data? If not, why?",
                 result.external),
            Item("34", "Registration of a trial", "Is there a clinical trial, and its number?"),
        )),
        ("Results", (
            Item("35", "Numbers included and excluded", "How many patients, and why not others?",
                 result.patient_flow),
            Item("36", "Characteristics by partition", "Who are the patients of each partition?",
                 data.characteristics),
            Item("37", "Performance with uncertainty", "How well does the model do?",
                 result.performance),
            Item("38", "Diagnostic accuracy with precision", "How accurate are decisions?",
                 result.diagnostic),
            Item("39", "Failures", "When is the model wrong?", result.failures),
        )),
        ("Discussion", (
            Item("40", "Limitations", "What are the study's limitations?", result.limitations),
            Item("41", "Implications for practice", "What follows for practice?"),
        )),
        ("Other information", (
            Item("42", "Full protocol", "Where is the study's protocol?"),
            Item("43", "Availability of software, model and data",
                 "Where are software, model and data?", network.availability),
            Item("44", "Funding", "Who funded the study, and in which role?"),
        )),
    ),
)  # fmt: skip
